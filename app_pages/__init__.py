"""The pages of the app, one file each. They show what `vizcore` computes; there is no mathematics here."""
