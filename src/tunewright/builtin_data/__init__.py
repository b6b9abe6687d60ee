# SPDX-License-Identifier: Apache-2.0
"""Built-in demo data: conversations of the customer service of an imaginary bank, in English and Chinese.

The files bank.jsonl, intents.json and README.md lie in this package. All texts were written for this project
and have its licence, Apache-2.0. tools/build_builtin_data.py writes the files.
"""
