-- From version 4: the index of words merges its parts when it is told to, and never by itself.

INSERT INTO history_words (history_words, rank) VALUES ('automerge', 0), ('crisismerge', 1999);
