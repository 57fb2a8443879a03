"""`cyclomatic.py` as a WebAssembly component: the same answer, from a sandbox with one folder to read. Built with componentize-py."""
import json

import componentize_py_types
import cyclomatic
import wit_world
from wit_world.exports.tool import About, Failure


class Tool(wit_world.exports.Tool):
    def describe(self) -> About:
        tool = cyclomatic.TOOL
        return About(tool["name"], "3.0.0", tool["description"], json.dumps(tool["inputSchema"]))

    def execute(self, params: str) -> str:
        try:
            return json.dumps(cyclomatic.analyse(json.loads(params)["file_path"]))
        except (OSError, UnicodeDecodeError) as error:
            raise componentize_py_types.Err(Failure(str(error), False))
