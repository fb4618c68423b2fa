"""Rules without input or output: states, verbs, definitions, drift."""
