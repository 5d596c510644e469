"""The process: its sockets (`listening`), HTTP on the wire (`protocol`, `chunks`), the end of a connection (`closing`),
who is not let in (`door`), what is answered at once (`shortcut`), a worker (`worker`), several (`workers`)."""
