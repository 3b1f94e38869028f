"""Reads the audited repository: `git` runs git safely, `tree` lists the files, `languages` tells what they are."""
