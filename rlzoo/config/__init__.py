"""What a run is told: one record, resolved from defaults, presets, files and flags."""
