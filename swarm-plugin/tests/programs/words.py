#!/usr/bin/env python3
import json, sys

TOOL = {"name": "words", "description": "Counts the words of a text",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}

for line in sys.stdin:
    ask = json.loads(line)
    if ask["method"] == "initialize":
        answer = {"protocolVersion": ask["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "words", "version": "1.0.0"}}
    elif ask["method"] == "tools/list":
        answer = {"tools": [TOOL]}
    elif ask["method"] == "tools/call":
        words = len(ask["params"]["arguments"]["text"].split())
        answer = {"content": [], "structuredContent": {"words": words}}
    else:
        answer = {}
    if "id" in ask:
        print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": answer}), flush=True)
