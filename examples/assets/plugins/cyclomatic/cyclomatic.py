#!/usr/bin/env python3
"""Scores how complex a Rust source is, after McCabe. The same in Rust, with words on how: `examples/src/complexity.rs`."""
import json, sys

TOOL = {"name": "complexity_pro", "description": "Scores how complex a Rust source file is",
        "inputSchema": {"type": "object", "additionalProperties": False, "required": ["file_path"],
                        "properties": {"file_path": {"type": "string", "description": "the file to look at"}}}}
LIMIT = 10
LITERAL = '"'
NO_OPERAND = {"return", "move", "in", "else", "match", "if", "while", "break", "let"}


def in_a_word(c):
    return c.isalnum() and c.isascii() or c == "_" or not c.isascii()


def is_word(token):
    return token != "" and in_a_word(token[0])


def is_operand(token):
    return token in (LITERAL, ")", "]", "}", "?") or is_word(token) and token not in NO_OPERAND


def tokens(text):
    found, at = [], 0
    while at < len(text):
        if text.startswith("//", at):
            while at < len(text) and text[at] != "\n":
                at += 1
        elif text.startswith("/*", at):
            depth = 0
            while at < len(text):
                if text.startswith("/*", at):
                    depth, at = depth + 1, at + 2
                elif text.startswith("*/", at):
                    depth, at = depth - 1, at + 2
                    if depth == 0:
                        break
                else:
                    at += 1
        elif text[at] == '"':
            at += 1
            while at < len(text) and text[at] != '"':
                at += 2 if text[at] == "\\" else 1
            at += 1
            found.append(LITERAL)
        elif text.startswith("'\\", at):
            at += 3
            while at < len(text) and text[at] != "'":
                at += 1
            at += 1
            found.append(LITERAL)
        elif text[at] == "'" and text[at + 2:at + 3] == "'":
            at += 3
            found.append(LITERAL)
        elif in_a_word(text[at]):
            begin = at
            while at < len(text) and in_a_word(text[at]):
                at += 1
            word, marks = text[begin:at], 0
            while text.startswith("#", at + marks):
                marks += 1
            if word in ("r", "br", "cr") and text.startswith('"', at + marks):
                end = '"' + "#" * marks
                close = text.find(end, at + marks + 1)
                at = len(text) if close < 0 else close + len(end)
                found.append(LITERAL)
            else:
                found.append(word)
        else:
            sign = text[at:at + 2] if text[at:at + 2] in ("&&", "||", "=>", "->") else text[at]
            at += len(sign)
            if sign not in (" ", "\n"):
                found.append(sign)
    return found


def complexity(text):
    all = tokens(text)
    word = lambda at: all[at] if 0 <= at < len(all) else ""
    found, open_ones, head, nested, depth, names_a_trait = [], [], None, 0, 0, False
    for at, token in enumerate(all):
        if token == "fn" and is_word(word(at + 1)):
            head, nested = word(at + 1), 0
        elif token in ("(", "["):
            nested += 1
        elif token in (")", "]"):
            nested -= 1
        elif token == ";" and nested == 0:
            head = None
        elif token == "{":
            if head is not None and nested == 0:
                open_ones.append((len(found), depth))
                found.append([head, 1])
                head = None
            names_a_trait = False
            depth += 1
        elif token == "}":
            depth -= 1
            if open_ones and open_ones[-1][1] == depth:
                open_ones.pop()
        elif token == "impl":
            names_a_trait = True
        paths = 0
        if token in ("if", "while", "=>"):
            paths = 1
        elif token == "match":
            paths = -1
        elif token == "for":
            paths = word(at + 1) != "<" and not names_a_trait
        elif token in ("&&", "||", "?"):
            paths = is_operand(word(at - 1))
        if open_ones:
            found[open_ones[-1][0]][1] += int(paths)
    return found


def analyse(path):
    # As Rust reads it: no line end is made another.
    with open(path, encoding="utf-8", newline="") as file:
        functions = complexity(file.read())
    advice = [f"split {name}: {paths} paths" for name, paths in functions if paths > LIMIT]
    return {"complexity_score": sum(paths for _, paths in functions), "recommendations": advice}


def answer(ask):
    if ask["method"] == "initialize":
        return {"protocolVersion": ask["params"]["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "cyclomatic", "version": "2.0.0"}}
    if ask["method"] == "tools/list":
        return {"tools": [TOOL]}
    if ask["method"] == "tools/call":
        try:
            return {"content": [], "structuredContent": analyse(ask["params"]["arguments"]["file_path"])}
        except (OSError, UnicodeDecodeError) as error:
            return {"content": [{"type": "text", "text": str(error)}], "isError": True}
    return {}


if __name__ == "__main__":
    for line in sys.stdin:
        ask = json.loads(line)
        if "id" in ask:
            print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": answer(ask)}), flush=True)
