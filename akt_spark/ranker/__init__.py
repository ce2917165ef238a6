"""The AKT-Rec ranker in plain torch: every variant is one `akt_rec.Ranker` under another `ModelConfig`."""
