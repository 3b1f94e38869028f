"""Renders the results: `report` is the last sortie, which writes HTML (`page`), Markdown and SARIF."""
