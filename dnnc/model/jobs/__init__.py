"""Kinds of jobs, a file each: whatever `job_kind` registers in here can stand in a file."""
