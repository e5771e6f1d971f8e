"""The control socket: how a person, a command or a program next door talks to a running broker."""
