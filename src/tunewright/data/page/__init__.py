"""The page report.html of a data artifact: report.json and some samples, for people."""
