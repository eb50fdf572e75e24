"""Golden files: what the project gave before it was redesigned, and the code that writes it (`golden/write.py`)."""
