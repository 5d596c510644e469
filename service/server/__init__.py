"""The process: HTTP on the wire (`protocol`), who is not let in (`door`), a worker (`worker`), several (`workers`)."""
