"""Reads parts of the documentation from the package, so that no page repeats them; see ``mkdocs.yml``."""
