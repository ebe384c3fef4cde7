// What the OpenAPI document says of answers: which status a route answers with when all went well, and how every error is told.
// Not the shapes of requests: those are the routes' own schemas. Invariant: what a route answers with and what stands here is compared by
// the fuzzing of the API.

import type { FastifyDynamicSwaggerOptions, SwaggerTransform } from "@fastify/swagger";
import { jsonSchemaTransform } from "fastify-type-provider-zod";
import { ERROR_KINDS } from "../api/errors.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Statuses of answers that are no errors; default: 200. */
    answers?: readonly number[];
  }
}

const ANSWERS = "x-answers";
const MEANINGS: Readonly<Record<number, string>> = {
  101: "The connection is a WebSocket now",
  200: "Done",
  201: "Made",
  206: "A part of the file",
};
const ERROR_NAME = "Error";

const errorSchema = () => ({
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["code", "message", "requestId"],
      properties: {
        code: { type: "string", enum: Object.keys(ERROR_KINDS) },
        message: { type: "string" },
        requestId: { type: "string" },
        retryAfterMs: { type: "integer" },
        details: { type: "object" },
      },
    },
  },
});

const transform: SwaggerTransform = (input) => {
  const { schema, url } = jsonSchemaTransform(input);
  return { url, schema: { ...schema, [ANSWERS]: input.route.config?.answers ?? [200] } };
};

type Operation = Record<string, unknown> & { [ANSWERS]?: readonly number[]; responses?: unknown };

/** For the plugin that makes the document. */
export function documentOptions(version: string): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Corral", version },
      components: { securitySchemes: { key: { type: "http", scheme: "bearer" } }, schemas: { [ERROR_NAME]: errorSchema() as object } },
      security: [{ key: [] }],
    },
    transform,
    transformObject: (made) => {
      if (!("openapiObject" in made)) throw new Error("the document is no OpenAPI");
      const { openapiObject: document } = made;
      for (const path of Object.values(document.paths ?? {}))
        for (const operation of Object.values(path ?? {})) answered(operation as Operation);
      return document;
    },
  };
}

function answered(operation: Operation): void {
  const { [ANSWERS]: statuses = [] } = operation;
  delete operation[ANSWERS];
  const error = { "application/json": { schema: { $ref: `#/components/schemas/${ERROR_NAME}` } } };
  operation.responses = {
    ...Object.fromEntries(statuses.map((status) => [status, { description: MEANINGS[status] ?? "Done" }])),
    default: { description: "An error: its status and what to do are those of its code", content: error },
  };
}
