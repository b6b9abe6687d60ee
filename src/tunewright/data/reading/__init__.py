"""Files to rows: bytes, encodings, JSONL, arrays, tables, compression; strict JSON. Knows no conversation."""
