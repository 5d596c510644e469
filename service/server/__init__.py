"""The process: HTTP on the wire (`protocol`), a worker that ends gracefully (`worker`), several (`workers`)."""
