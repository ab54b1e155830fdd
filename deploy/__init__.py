"""How the processes are brought up; ``local`` is one machine with nothing but Python."""
