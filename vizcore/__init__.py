"""The core of CNN Lens: what a trained convolutional network sees in a picture, as numbers.

Knows PyTorch and NumPy; knows no Streamlit, no plotting state, and no particular network.
"""
