"""One machine: embedded databases, every process under one supervisor, no root needed.

``python -m deploy.local up`` is what ``make up`` runs. ``postgres`` and ``valkey``
start the embedded services, ``runtime_env`` writes down what was chosen,
``supervisor`` keeps the processes alive, ``up`` puts the sequence together. Each of
them takes the state directory as an argument; nothing here is global, so two clones
(and a test run) live side by side.
"""
