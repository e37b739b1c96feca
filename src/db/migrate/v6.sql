-- From version 5: parts of the index of words are merged long before there can be no more of them, which is at 2,000.

INSERT INTO history_words (history_words, rank) VALUES ('crisismerge', 1000);
