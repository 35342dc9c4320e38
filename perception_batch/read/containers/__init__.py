"""The files of a log: one module a container, and all files of a drive as one."""
