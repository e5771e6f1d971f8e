"""Who may do what: the directory of users, vhosts and permissions, passwords, and the rules of admission."""
