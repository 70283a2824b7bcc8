"""What `train_demo_model.py` is made of: tokenizer, data, model, training step, export."""
