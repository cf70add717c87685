"""Tables, plots, cell drawings, the HTML page."""
