// The OpenAPI document, as a fuzzer reads it: its operations and the schemas of what they take. Not a validator.

export interface Schema {
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly pattern?: string;
  readonly format?: string;
  readonly contentEncoding?: string;
}

interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly schema: Schema;
}

export interface Operation {
  readonly method: string;
  /** With names in braces. */
  readonly path: string;
  readonly parameters: readonly Parameter[];
  /** Absent: it takes no JSON. */
  readonly body: Schema | undefined;
  /** Statuses of answers that are no errors. */
  readonly answers: readonly number[];
}

interface RawOperation {
  readonly parameters?: readonly (Omit<Parameter, "required"> & { readonly required?: boolean })[];
  readonly requestBody?: { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, unknown>>;
}

/** Throws for an operation that does not say how errors are told. */
export function operationsOf(document: unknown): Operation[] {
  const { paths } = document as { readonly paths: Readonly<Record<string, Readonly<Record<string, RawOperation>>>> };
  return Object.entries(paths).flatMap(([path, byMethod]) =>
    Object.entries(byMethod).map(([method, { parameters = [], requestBody, responses }]) => {
      const { default: error, ...rest } = responses;
      if (error === undefined) throw new Error(`${method} ${path} documents no error`);
      return {
        method: method.toUpperCase(),
        path,
        parameters: parameters.map((parameter) => ({ required: false, ...parameter })),
        body: requestBody?.content?.["application/json"]?.schema,
        answers: Object.keys(rest).map(Number),
      };
    }),
  );
}
