"""`make demo`: the bundled model writes several stories at once, and shows the pages it uses."""
