"""Reading corpora: which files, in which format, and any range of their rows.

Every format offers the same two functions: `describe(file) -> Description` and
`read(file, schema, unit) -> Iterator[Rows]`; `formats` chooses between them by file name.
"""
