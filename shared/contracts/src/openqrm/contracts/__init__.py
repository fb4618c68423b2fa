"""The words that openQRM's services say to each other: messages, states, problems and the clock."""
