"""A drawn drive with exact truth, written as a real log.

Nothing is imported here, so that the command line can ask `simulate.command` for its words at no cost.
`simulate.drive.simulate` writes a drive, `simulate.truth.load_truth` reads its truth back.
"""
