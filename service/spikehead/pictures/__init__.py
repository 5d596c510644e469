"""Pictures: from the bytes of a file to the 28 x 28 pixels that the network reads."""
