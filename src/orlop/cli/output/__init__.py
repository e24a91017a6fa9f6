"""From answers of the engine to lines on a screen: tables, templates, units, progress."""
