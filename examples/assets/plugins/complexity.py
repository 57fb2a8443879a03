#!/usr/bin/env python3
"""Scores how complex a source file of Python is: decisions of all its functions, after McCabe."""
import ast, json, sys

TOOL = {"name": "complexity_pro", "description": "Scores how complex a Python file is",
        "inputSchema": {"type": "object", "additionalProperties": False, "required": ["file_path"],
                        "properties": {"file_path": {"type": "string", "description": "the file to look at"}}}}
DECISIONS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.ExceptHandler, ast.Assert, ast.comprehension)


def decisions(tree):
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, DECISIONS):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.match_case):
            count += 1
    return count


def analyse(path):
    with open(path) as file:
        tree = ast.parse(file.read())
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    scores = {function.name: 1 + decisions(function) for function in functions}
    advice = [f"split {name}: {score} paths" for name, score in scores.items() if score > LIMIT]
    return {"complexity_score": sum(scores.values()), "recommendations": advice}


LIMIT = 10

for line in sys.stdin:
    ask = json.loads(line)
    if ask["method"] == "initialize":
        answer = {"protocolVersion": ask["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "complexity", "version": "1.0.0"}}
    elif ask["method"] == "tools/list":
        answer = {"tools": [TOOL]}
    elif ask["method"] == "tools/call":
        try:
            answer = {"content": [], "structuredContent": analyse(ask["params"]["arguments"]["file_path"])}
        except (OSError, SyntaxError) as error:
            answer = {"content": [{"type": "text", "text": str(error)}], "isError": True}
    else:
        answer = {}
    if "id" in ask:
        print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": answer}), flush=True)
