"""Answers that a project keeps: responses, and chat completions that asked for it.

What a client and a model said lies in one encrypted column; a row is there for as many days as
its organization says, and none is made where that is 0 (docs/adr/0029-stored-answers.md).
"""
