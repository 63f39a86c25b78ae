"""Count the words of a text file with DuckDB, which splits at spaces; print one JSON line of timings."""

from __future__ import annotations

import json
import sys
import time

import duckdb

text, threads = sys.argv[1], int(sys.argv[2])
connection = duckdb.connect(config={"threads": threads})
LINES = "read_csv(?, columns={'line': 'VARCHAR'}, header=false, sep='\x01', quote='', escape='', auto_detect=false)"
QUERY = f"""
    CREATE TABLE counts AS
    SELECT word, count(*) AS n FROM (SELECT unnest(string_split(lower(line), ' ')) AS word FROM {LINES})
    WHERE word <> '' GROUP BY word
"""
start = time.perf_counter()
connection.execute(QUERY, [text])
seconds = time.perf_counter() - start
[words, distinct] = connection.execute("SELECT sum(n)::BIGINT, count(*) FROM counts").fetchone() or (0, 0)
print(json.dumps({"words": words, "distinct": distinct, "count_s": seconds}))
