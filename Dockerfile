# CNN Lens in a container, without root. It writes to /tmp and to /home/lens only; the rest can be read-only:
#   docker run --read-only --tmpfs /tmp -v lens-home:/home/lens -p 127.0.0.1:8501:8501 cnn-lens
# docs/deployment.md says what stands in front of it, and which settings there are.
FROM python:3.12-slim

WORKDIR /app

# torch alone first: where the package index serves a build for CUDA (Linux on x86-64), TORCH_INDEX is the address that
# PyTorch's install page gives for "CPU". What it installs then satisfies requirements.txt. Versions stand only there.
ARG TORCH_INDEX=""
COPY requirements.txt .
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} $(grep -oE '^torch(vision)?==[0-9.]+' requirements.txt) \
    && pip install --no-cache-dir -r requirements.txt

COPY . .
RUN python -m compileall -q app.py app_pages commands models vizcore \
    && useradd --uid 10001 --create-home lens
USER lens

# The address that is named at start is this one, or Streamlit would ask a server on the internet for it.
ENV HOME=/home/lens \
    MPLCONFIGDIR=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_BROWSER_SERVER_ADDRESS=localhost

EXPOSE 8501
# The default network is loaded meanwhile, but the server answers before that.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["python", "-m", "streamlit", "run", "app.py"]
