/** One line of `doctor`: what was looked at, how it is, and what to do about it. */
export interface Check {
  readonly name: string;
  readonly result: "pass" | "warning" | "fail";
  readonly message: string;
  readonly hint?: string;
}

export const pass = (name: string, message: string): Check => ({ name, result: "pass", message });
export const warning = (name: string, message: string, hint: string): Check => ({
  name,
  result: "warning",
  message,
  hint,
});
export const fail = (name: string, message: string, hint: string): Check => ({
  name,
  result: "fail",
  message,
  hint,
});
