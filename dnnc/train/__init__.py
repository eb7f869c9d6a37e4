"""Training runs.

`loop` trains, `result` says what it takes and gives, `progress` tells of it, `folder`, `keeper`,
`checkpoint` and `files` keep it, `finite` and `replay` explain where it went wrong, `report` draws
it.
"""
