"""Arithmetic: one number of the net computed by hand, a bench for kernels, and the net with a kernel changed."""

import streamlit as st

from app_pages import common, kernel_bench, kernel_editor, unit

here = common.chosen()
PARTS = {
    "unit": ("A unit of the net", unit.show),
    "bench": ("Bench", kernel_bench.show),
    "edit": ("Edit a kernel", kernel_editor.show),
}

st.title("Arithmetic", anchor=False)
st.caption("What a network computes is multiplying and adding. Here it is done again by hand, on its real numbers.")
common.warn_untrained(here)
part = st.segmented_control(
    "Part",
    list(PARTS),
    default="unit",
    required=True,
    format_func=lambda name: PARTS[name][0],
    key="arithmetic_part",
    bind="query-params",
    label_visibility="collapsed",
)
PARTS[part][1](here)
