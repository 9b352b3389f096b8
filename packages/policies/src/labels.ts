import {
  FarpoolError,
  labelNameSchema,
  labelValueSchema,
  type LabelRequirement,
  type Labels,
} from "@farpool/contract";

/** `zone=a,b`: the label `zone` is `a` or `b`. A refusal names the option. */
export function parseRequirement(text: string, option: string): LabelRequirement {
  const [label = "", ...rest] = text.split("=");
  const values = rest.join("=").split(",");
  const isGood =
    rest.length > 0 &&
    labelNameSchema.safeParse(label).success &&
    values.every((value) => value !== "" && labelValueSchema.safeParse(value).success);
  if (isGood) return { label, values };
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `${option} takes LABEL=VALUE[,VALUE…], not '${text.replaceAll(/\p{Cc}/gu, "?")}'`,
    { hint: `${option} zone=a,b: servers whose label zone is a or b` },
  );
}

export function formatRequirements(requirements: readonly LabelRequirement[]): string {
  return requirements.map(({ label, values }) => `${label}=${values.join(",")}`).join(" ");
}

/** Whether something with these labels meets all requirements. */
export function meets(labels: Labels, requirements: readonly LabelRequirement[]): boolean {
  return requirements.every(({ label, values }) => {
    const value = labels[label];
    return value !== undefined && values.includes(value);
  });
}
