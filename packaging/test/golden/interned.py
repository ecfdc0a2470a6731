"""JSON lines in which a value that several rows share is stored once.

The first line is a list of shared values. A string "$N" in a row stands for
value N of it; a string that begins with "$" by itself has another "$" before it.
"""

import json


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(path, rows, least=120):
    count = {}

    def look(value):
        if isinstance(value, (dict, list)):
            text = dumps(value)
            if len(text) >= least:
                count[text] = count.get(text, 0) + 1
                if count[text] > 1:
                    return  # its parts are counted once
            for inner in value.values() if isinstance(value, dict) else value:
                look(inner)

    look(rows)
    shared, number = [], {}

    def replaced(value):
        if isinstance(value, str) and value.startswith("$"):
            return "$" + value
        if not isinstance(value, (dict, list)):
            return value
        text = dumps(value)
        if text in number:
            return f"${number[text]}"
        if isinstance(value, dict):
            made = {k: replaced(v) for k, v in value.items()}
        else:
            made = [replaced(v) for v in value]
        if count.get(text, 0) > 1:
            number[text] = len(shared)
            shared.append(made)
            return f"${number[text]}"
        return made

    made = [replaced(row) for row in rows]
    with open(path, "w", encoding="utf-8") as f:
        for line in [shared] + made:
            f.write(dumps(line) + "\n")


def read(path):
    with open(path, encoding="utf-8") as f:
        shared, *rows = [json.loads(line) for line in f]

    def full(value):
        if isinstance(value, str) and value.startswith("$"):
            return value[1:] if value.startswith("$$") else full(shared[int(value[1:])])
        if isinstance(value, dict):
            return {k: full(v) for k, v in value.items()}
        if isinstance(value, list):
            return [full(v) for v in value]
        return value

    return [full(row) for row in rows]
