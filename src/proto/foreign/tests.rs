//! What a foreign server owes, and who gets it.
