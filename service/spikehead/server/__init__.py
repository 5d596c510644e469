"""The process: its sockets (`listening`), HTTP on the wire (`protocol`, `chunks`), the end of a connection (`closing`),
a worker (`worker`), several (`workers`)."""
