# syntax=docker/dockerfile:1
# Builds for linux/amd64 and linux/arm64: docker buildx build --platform linux/amd64,linux/arm64 .
FROM node:24-bookworm AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
# The package as it is installed, with the native add-on of this platform.
RUN npm pack --pack-destination /tmp \
 && mkdir /app \
 && npm install --prefix /app --omit=dev --omit=optional --omit=peer --ignore-scripts --no-audit --no-fund /tmp/ultrafastbert-*.tgz

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
    HF_HOME=/cache \
    JSON_OUTPUT=true
COPY --from=build /app /app
RUN mkdir /cache && chown node:node /cache
# node's
USER 1000
VOLUME /cache
EXPOSE 3000
# Of the server in the container, whatever --port says: PORT is the same by the environment.
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT ?? 3000}/health`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/node_modules/ultrafastbert/dist/cli.js"]
CMD ["serve"]
