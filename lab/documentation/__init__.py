"""What the documentation site reads out of the package, so that no page repeats it; see ``mkdocs.yml``."""
