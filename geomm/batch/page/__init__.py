"""The parts of the page of a run, each a function from the record to HTML; whatever comes from data is escaped."""
