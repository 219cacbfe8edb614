"""The demo: a page on which a model can be tried with photos and phrases (extra `demo`)."""
