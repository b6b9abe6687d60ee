"""Final answers of word problems, Chinese and English: from a text to a rational number, and whether two agree.

The layers, each in its own file: `plain` (one spelling of digits, signs, LaTeX and Markdown), `chinese` and `english`
(number words), `numbers` and `context` (numbers with their places, signs and units), `cues`, `cuts`, `select` and
`phrasing` (which place is the answer's), `agree` (whether two answers are the same), `arithmetic`, `equations` and
`steps` (what was written on the way).
"""
