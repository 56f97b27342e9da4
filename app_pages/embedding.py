"""Embedding: how the network arranges a set of pictures, beside how raw pixels would arrange them."""

import streamlit as st

st.title("Embedding", anchor=False)
