"""Operations on one kind of thing from acceptance to end, on top of engine.py."""
