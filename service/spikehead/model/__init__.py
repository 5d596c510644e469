"""The model: what is needed to say what a spike is, with numpy alone. Training shares it."""
