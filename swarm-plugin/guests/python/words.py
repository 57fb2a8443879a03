"""Counts the words of a text."""

import json

import wit_world
from wit_world.exports.tool import About

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class Tool(wit_world.exports.Tool):
    def describe(self) -> About:
        return About("words", "1.0.0", "Counts the words of a text", json.dumps(SCHEMA))

    # A failure is raised: `raise componentize_py_types.Err(Failure("why", False))`.
    def execute(self, params: str) -> str:
        return json.dumps({"words": len(json.loads(params)["text"].split())})
